"""Journalled operations: steps, undo, resume; and the frame for reconcile loops."""
