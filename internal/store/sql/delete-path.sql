delete from ValidPaths where id = ?
