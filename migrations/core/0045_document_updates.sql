-- What a document is called and found under may change; the policies and the service say by whom.
grant update (title, access_level, metadata, language, language_told, tags) on core.documents to studios_core;
