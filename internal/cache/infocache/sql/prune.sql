-- ?1 and ?2: when what is still believed was asked, for files that were there and others; ?3: now.
delete from narinfos where asked < case when text is null then ?2 else ?1 end or asked > ?3 + 60;
