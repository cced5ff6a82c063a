#pragma once

/* What libssh2 1.11.1 lacks and tunneld needs, in one C file: whole-packet AES-GCM, channel opens
 * that run side by side, an explicit drain of the input, and replies to keepalives that are reaped
 * (they prove life, and would pile up otherwise).
 *
 * With the private headers of exactly 1.11.1 (TUNNEL_LIBSSH2_PRIVATE) these use the library's
 * internals; otherwise each falls back to the public API: correct, slower, opens one at a time.
 * docs/decisions/0001-libssh2-engine.md says why. One session belongs to one thread at a time.
 */

#include <stddef.h>
#include <stdint.h>

#include <libssh2.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Which of the private paths this build can use. */
enum {
  ENGINE_WHOLE_PACKET_GCM = 1,
  ENGINE_CONCURRENT_OPENS = 2,
  ENGINE_REAP_REPLIES = 4,
};
int engine_capabilities(void);

/* Puts whole-packet AES-256-GCM in place of the library's cipher of that name (which calls the cipher
 * once per 16 bytes), or puts the stock one back. Call before the first session. Returns 1 if the
 * whole-packet cipher is in use afterwards. */
int engine_use_whole_packet_gcm(int on);

/* 1 if the peer agreed to strict key exchange (the cure for CVE-2023-48795), 0 if not, -1 if this
 * build cannot tell. Valid after the handshake. */
int engine_strict_kex(LIBSSH2_SESSION* session);

/* What one drain saw; counters only grow. */
struct engine_seen {
  uint64_t replies;    /* answers to our keepalives */
  uint64_t unexpected; /* packets of types nobody here asked for; dropped where possible */
};

/* Takes all packets out of the input that the receive callback offers. Returns 0 when it ran dry, or
 * a negative LIBSSH2_ERROR_*. `any_channel` may be NULL; the fallback needs one to be able to drain. */
int engine_drain(LIBSSH2_SESSION* session, LIBSSH2_CHANNEL* any_channel, struct engine_seen* seen);

/* 1 if a read of this channel would not block: data, EOF or CLOSE is there. */
int engine_channel_readable(LIBSSH2_CHANNEL* channel);
/* 1 if the peer's window has room. */
int engine_channel_writable(LIBSSH2_CHANNEL* channel);
/* Raises the receive window kept open for the channel; takes effect with the next reads. */
void engine_channel_set_window(LIBSSH2_CHANNEL* channel, uint32_t bytes);

/* One channel open under way. Create, step until the result is not EAGAIN, destroy. Without
 * ENGINE_CONCURRENT_OPENS only one may be stepped at a time on a session. */
struct engine_open;
struct engine_open* engine_open_new(void);
void engine_open_free(struct engine_open* open);
/* NULL with libssh2_session_last_errno() == LIBSSH2_ERROR_EAGAIN: not answered yet. Drain first. */
LIBSSH2_CHANNEL* engine_open_step(LIBSSH2_SESSION* session, struct engine_open* open, uint32_t window,
                                  const char* message, size_t message_len);

#ifdef __cplusplus
}
#endif
