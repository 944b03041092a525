pragma wal_autocheckpoint = 40000
