"""What a plan is made of: its steps, and those of stages 2 and 3."""
