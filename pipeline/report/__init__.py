"""Results for people to read: tables, texts and reports. Only `evidence/` computes; nothing here trains."""
