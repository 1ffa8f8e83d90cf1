"""What the book claims about speed, memory and accuracy, measured side by side with plain Keras.

`make bench` runs it all; `pieces` are the measurements, each in a fresh process; `__main__` runs them,
keeps each finished one, and puts the figures together. Run by themselves: `runtimes` (in a browser),
`distil`, `backends` (the same training on TensorFlow, JAX and PyTorch), `hosts` (training in two processes).
"""
