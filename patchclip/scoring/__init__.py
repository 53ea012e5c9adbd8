"""Vectors to anomaly maps, heatmaps and regions: windows, memory banks, fusion."""
