"""One test for each bug that was found in use; its docstring says what happened."""
