"""Images: reading, preparing for the network, varying, and preparing ahead in threads."""
