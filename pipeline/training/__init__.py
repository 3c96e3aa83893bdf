"""How stage 1 trains a backbone: epochs, steps, batches, what is minimised, how weights move."""
