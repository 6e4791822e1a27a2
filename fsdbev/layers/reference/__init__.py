"""The operators in plain PyTorch: what runs without the compiled extension, and the tests' oracle.

They take the arguments of the compiled operators (positionally) and give the same values.
"""
