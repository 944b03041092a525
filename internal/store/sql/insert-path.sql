insert into ValidPaths (path, hash, registrationTime, deriver, narSize, ultimate, sigs, ca)
values (?, ?, ?, ?, ?, ?, ?, ?)
