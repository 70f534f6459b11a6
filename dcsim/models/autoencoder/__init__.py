"""What autoencoders are made of: see `vae.py`."""
