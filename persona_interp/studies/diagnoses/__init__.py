"""Diagnoses of transfers whose causes are known, and of real pairs."""
