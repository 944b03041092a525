insert into caches (url, info, asked) values (?, ?, ?)
on conflict (url) do update set info = excluded.info, asked = excluded.asked;
