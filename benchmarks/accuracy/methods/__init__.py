"""The methods that are compared, one file for each family; `table.py` lists them all."""
