"""Alignment: linear maps between the residual streams of two models, fitted on rows that both read. No model library here."""
