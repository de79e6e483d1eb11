from keras_simple_diffusion.cli import main

main()
