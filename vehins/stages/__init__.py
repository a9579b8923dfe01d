"""One file per stage of the chain. A stage knows its inputs, its settings and its work, and no other stage."""
