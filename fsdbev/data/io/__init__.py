"""Files of images, videos, rigs and Arrow tables."""
