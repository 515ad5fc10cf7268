"""Every main experiment in one resumable run: extraction, layers, doses, transfers, and what of the brief's claims holds."""
