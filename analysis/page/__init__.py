"""What a page of the report is made of; every analysis below the report can use it."""
