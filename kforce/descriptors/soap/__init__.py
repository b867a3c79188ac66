"""The SOAP power spectrum of atomic environments."""
