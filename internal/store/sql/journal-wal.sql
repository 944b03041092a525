pragma main.journal_mode = wal
