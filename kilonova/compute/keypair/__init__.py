"""Key pairs: public keys that a user's servers trust."""
