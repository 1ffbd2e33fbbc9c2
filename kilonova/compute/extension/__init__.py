"""Extensions: what old clients ask for instead of versions."""
