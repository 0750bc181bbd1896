// Package api holds what every part of holdfast and every caller share: the
// public contract (holdfast/v1), what members of a cluster tell each other through
// etcd (cluster), and how purchases reach a worker (link, holdfast/worker/v1).
package api

import _ "embed"

// OpenAPI is the OpenAPI 2.0 document of the HTTP/JSON form of the contract.
//
//go:embed openapi.swagger.json
var OpenAPI []byte
