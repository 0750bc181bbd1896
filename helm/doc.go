// Package helm holds the chart in holdfast and its tests: each set of values in holdfast/ci and
// examples is rendered, and what comes out must be what Kubernetes knows. They need no cluster.
package helm

//go:generate go run ./readme
