"""What is learnt and how it is judged: features, trainer, bundle, metrics and the gate."""
