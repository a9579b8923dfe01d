"""The page at ``/``: one customer in a form, or many in a CSV, made on the server from the schema of the model."""
