"""Extensions: the list of what this API really has."""
