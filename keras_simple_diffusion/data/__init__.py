from keras_simple_diffusion.data.digits import load_digits as load_digits
