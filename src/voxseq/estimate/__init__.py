"""Estimate of a plan: GPU hours, bytes and days."""
