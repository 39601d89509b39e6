// Package ra advertises routers: what is said on each link (RFC 4861 §4.2 with
// the options of RFC 4191, 8106, 8781 and 8910), and when (RFC 4861 §6.2).
//
// It opens no socket and reads no clock of its own but time's: links are reached
// through a small Conn, and the whole schedule runs under testing/synctest.
//
// It is no RA relay and no host: an advertisement that it hears changes no
// address and no route. It is compared with its own (RFC 4861 §6.2.7), and keeps
// it from announcing what another router has announced before.
package ra
