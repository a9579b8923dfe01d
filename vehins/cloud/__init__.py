"""The AWS stack, and what runs on its box."""
