"""The public contract: schemas, routes, problem documents, the OpenAPI document."""
