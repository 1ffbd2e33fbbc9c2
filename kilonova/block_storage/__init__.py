"""Block storage (Cinder): volumes, types, attachments."""
