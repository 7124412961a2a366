<?php

// PDO behind PgBouncer. Prints TAP: https://testanything.org

require __DIR__ . '/identity.php';

const ACME = 'aaaaaaaa-0000-4000-8000-000000000001';
const GLOBEX = 'bbbbbbbb-0000-4000-8000-000000000002';
const OWN = ['ALICE' => ['acme one', 'acme two', 'acme three'], 'BOB' => ['globex one', 'globex two']];

function connect(array $options = [PDO::PGSQL_ATTR_DISABLE_PREPARES => true]): PDO
{
    return new PDO('pgsql:', options: $options + [PDO::ATTR_ERRMODE => PDO::ERRMODE_EXCEPTION]);
}

function token(string $of): string
{
    return getenv("TOKEN_$of");
}

function same(mixed $expected, mixed $actual): void
{
    if ($expected !== $actual) {
        throw new Exception('expected ' . json_encode($expected) . ', got ' . json_encode($actual));
    }
}

function refused(string $sqlstate, int $status, callable $work): void
{
    try {
        $work();
    } catch (PDOException $error) {
        same([$sqlstate, $status], [$error->errorInfo[0], status_of($error)]);
        return;
    }
    throw new Exception("expected $sqlstate, got no error");
}

function query(PDO $database, string $sql, array $parameters = []): PDOStatement
{
    $statement = $database->prepare($sql);
    $statement->execute($parameters);
    return $statement;
}

function titles(PDO $database): array
{
    return query($database, 'SELECT title FROM invoice WHERE id < ? ORDER BY id', [1000])->fetchAll(PDO::FETCH_COLUMN);
}

$passed = $failed = 0;
function test(string $promise, callable $work): void
{
    global $passed, $failed;
    try {
        $work();
        $passed++;
        echo 'ok ', $passed + $failed, " - $promise\n";
    } catch (Throwable $error) {
        $failed++;
        echo 'not ok ', $passed + $failed, " - $promise\n# ", str_replace("\n", "\n# ", (string) $error), "\n";
    }
}

$ways = [
    'without named statements' => [PDO::PGSQL_ATTR_DISABLE_PREPARES => true],
    'with emulated prepares' => [PDO::ATTR_EMULATE_PREPARES => true],
    'on a persistent connection' => [PDO::PGSQL_ATTR_DISABLE_PREPARES => true, PDO::ATTR_PERSISTENT => true],
];
foreach ($ways as $way => $options) {
    test("each member sees their own rows, $way", function () use ($options) {
        for ($turn = 0; $turn < 10; $turn++) {
            $databases = [connect($options), connect($options)];
            foreach (OWN as $subject => $own) {
                foreach ($databases as $database) {
                    same($own, with_identity($database, token($subject), null, titles(...)));
                    refused('28000', 401, fn() => titles($database));
                }
            }
        }
    });
}

$database = connect();

test('the rows of another organization are not found by their id', function () use ($database) {
    with_identity($database, token('ALICE'), null, function ($database) {
        same('acme one', query($database, 'SELECT title FROM invoice WHERE id = ?', [1])->fetchColumn());
        same(false, query($database, 'SELECT title FROM invoice WHERE id = ?', [101])->fetchColumn());
        same(0, query($database, 'UPDATE invoice SET total = 0 WHERE id = ?', [101])->rowCount());
        same(0, query($database, 'DELETE FROM invoice WHERE id = ?', [101])->rowCount());
    });
});

test('a new row belongs to the organization of the member', function () use ($database) {
    $id = with_identity($database, token('BOB'), 'php-7', function ($database) {
        $insert = 'INSERT INTO invoice (title, total) VALUES (?, ?) RETURNING id, organization_id';
        [$id, $organization] = query($database, $insert, ["it's; -- 世界 ? :a", '12.50'])->fetch(PDO::FETCH_NUM);
        same(GLOBEX, $organization);
        return $id;
    });
    $find = fn($database) => query($database, 'SELECT title FROM invoice WHERE id = ?', [$id])->fetchColumn();
    same(false, with_identity($database, token('ALICE'), null, $find));
    same("it's; -- 世界 ? :a", with_identity($database, token('BOB'), null, $find));
});

test('without a token nothing is shown', function () use ($database) {
    refused('28000', 401, fn() => titles($database));
    refused('28000', 401, fn() => with_identity($database, '', null, titles(...)));
});

test('an expired token is refused', function () use ($database) {
    refused('28000', 401, fn() => with_identity($database, token('EXPIRED'), null, titles(...)));
    same(false, $database->inTransaction());
});

test('a reader reads and may not write', function () use ($database) {
    same(OWN['ALICE'], with_identity($database, token('VICTOR'), null, titles(...)));
    $write = fn($database) => query($database, 'UPDATE invoice SET total = 0 WHERE id = 1');
    refused('42501', 403, fn() => with_identity($database, token('VICTOR'), null, $write));
});

test('a row for another organization is refused', function () use ($database) {
    $insert = 'INSERT INTO invoice (organization_id, title) VALUES (?, ?)';
    $write = fn($database) => query($database, $insert, [GLOBEX, 'smuggled']);
    refused('42501', 403, fn() => with_identity($database, token('ALICE'), null, $write));
});

test('a savepoint undoes its own work and keeps the member', function () use ($database) {
    $rows = with_identity($database, token('ALICE'), null, function ($database) {
        query($database, "INSERT INTO invoice (title) VALUES ('kept')");
        $database->exec('SAVEPOINT attempt');
        try {
            query($database, "INSERT INTO invoice (organization_id, title) VALUES ('" . GLOBEX . "', 'undone')");
            throw new Exception('it was not refused');
        } catch (PDOException $error) {
            same('42501', $error->errorInfo[0]);
            $database->exec('ROLLBACK TO SAVEPOINT attempt');
        }
        return titles($database);
    });
    same(OWN['ALICE'], $rows);
    $kept = "SELECT count(*) FROM invoice WHERE title IN ('kept', 'undone')";
    $count = fn($database) => query($database, $kept)->fetchColumn();
    same(1, with_identity($database, token('ALICE'), null, $count));
    same(0, with_identity($database, token('BOB'), null, $count));
});

test('an error of the application undoes everything and leaves nothing to the next user', function () use ($database) {
    try {
        with_identity($database, token('ALICE'), null, function ($database) {
            query($database, 'DELETE FROM invoice');
            throw new RuntimeException('of the application');
        });
    } catch (RuntimeException $error) {
        same('of the application', $error->getMessage());
    }
    refused('28000', 401, fn() => titles($database));
    same(OWN['BOB'], with_identity($database, token('BOB'), null, titles(...)));
    same(OWN['ALICE'], with_identity($database, token('ALICE'), null, titles(...)));
});

test('the connection of the page shows the same', function () {
    require __DIR__ . '/connect.php';
    same(OWN['BOB'], with_identity($database, token('BOB'), null, titles(...)));
});

test('parameters do not stand in the text of a statement, unless prepares are emulated', function () {
    $text = fn($database) => query($database, 'SELECT current_query(), ?::text', ['secret'])->fetchColumn();
    $shown = fn(array $options) => str_contains(with_identity(connect($options), token('BOB'), null, $text), 'secret');
    same(false, $shown([PDO::PGSQL_ATTR_DISABLE_PREPARES => true]));
    same(true, $shown([PDO::ATTR_EMULATE_PREPARES => true]));
});

test('what follows a swallowed error is not committed', function () use ($database) {
    with_identity($database, token('ALICE'), null, function ($database) {
        query($database, "INSERT INTO invoice (title) VALUES ('swallowed')");
        try {
            query($database, 'SELECT 1 / 0');
        } catch (PDOException) {
        }
    });
    $count = fn($database) => query($database, "SELECT count(*) FROM invoice WHERE title = 'swallowed'")->fetchColumn();
    same(0, with_identity($database, token('ALICE'), null, $count));
});

echo '1..', $passed + $failed, "\n# pass $passed\n# fail $failed\n";
exit($failed ? 1 : 0);
