"""The training of stage 1: epochs, steps, batches, the objective, learning rate and averaged weights."""
