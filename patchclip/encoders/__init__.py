"""Networks and fixed descriptors: RGB images and sentences to vectors."""
