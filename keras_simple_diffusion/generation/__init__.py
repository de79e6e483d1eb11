"""Drawing of images: arguments, conditions, denoisers, compiled programs."""
