insert or replace into FailedPaths (path, time, drv, message, log) values (?, ?, ?, ?, ?)
