"""How the package's classes and functions are known to Keras's saving."""

import keras

REGISTER = keras.saving.register_keras_serializable(package="gauss_keras")
