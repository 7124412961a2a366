<?php

// One transaction as the member that the token names.
function with_identity(PDO $database, string $token, ?string $correlation_id, callable $work): mixed
{
    $database->beginTransaction();
    try {
        $statement = $database->prepare('SELECT tenancy.authenticate(?, correlation_id => ?)');
        $statement->execute([$token, $correlation_id]);
        $result = $work($database);
        $database->commit();
        return $result;
    } catch (Throwable $error) {
        if ($database->inTransaction()) {
            $database->rollBack();
        }
        throw $error;
    }
}

// What an API answers: the SQLSTATE says who is to blame.
function status_of(PDOException $error): int
{
    return match ($error->errorInfo[0] ?? null) {
        '28000' => 401, // no, bad or expired token; no membership
        '42501' => 403, // the role may not
        default => 500,
    };
}
