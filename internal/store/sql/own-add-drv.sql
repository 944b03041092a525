alter table FailedPaths add column drv text not null default ''
