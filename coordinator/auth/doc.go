// Package auth knows who calls and what he may do.
//
// A caller shows a token: one of an OpenID Connect issuer (a JWT that it signed), or one of a
// file of static tokens, for small set-ups. [Authenticator.Authenticate] turns it into a
// [Caller]; [Allow] says whether a caller may make a request. The rules are a table in
// rules.go; a request that is not in it is nobody's.
//
//	buyer     buys for the one customer that the token names, sees and changes what that
//	          customer has; names no prices
//	operator  everything
//	viewer    sees everything, changes nothing
//
// The package decides and does not look anything up: where a request names a purchase or an
// order by its id, Allow says so, and its caller finds out whose it is.
//
// Failures: an issuer that does not answer fails those calls whose token was not seen lately;
// a file of tokens that cannot be read any more leaves those valid that were read last.
package auth
