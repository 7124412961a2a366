<?php

// PGHOST, PGPORT, PGUSER, PGPASSWORD and PGDATABASE name the pooler.
$database = new PDO('pgsql:', options: [
    PDO::ATTR_ERRMODE => PDO::ERRMODE_EXCEPTION,
    PDO::PGSQL_ATTR_DISABLE_PREPARES => true, // the server binds the parameters, and no statement has a name
]);
