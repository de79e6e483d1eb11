"""The library's U-ViT and U-Net, written by hand for one framework.

They take the library's weights by name, so that they can be checked to compute
the same, and stand for what an expert would write without Keras.
"""
