"""Reference implementations of the operators in plain PyTorch or Pillow.

They run without the compiled extension and serve as oracle in tests. They take the arguments of
the compiled operators by position and return the same values.
"""
