package certs

// OpenEvery looks at the files more often than [Open].
var OpenEvery = open
