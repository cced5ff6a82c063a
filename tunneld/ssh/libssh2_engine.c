/* See libssh2_engine.h. The struct layouts used here are those of libssh2 1.11.1. */
#ifdef TUNNEL_LIBSSH2_PRIVATE
#include "libssh2_priv.h"
/* after libssh2_priv.h, which these need */
#include "channel.h"
#include "packet.h"
#include "transport.h"
#endif

#include "tunneld/ssh/libssh2_engine.h"

#include <stdlib.h>
#include <string.h>

static const char kDirectTcpip[] = "direct-tcpip";
enum { kPacketSize = 32768 };

#ifdef TUNNEL_LIBSSH2_PRIVATE
#if LIBSSH2_VERSION_NUM != 0x010b01
#error "libssh2_engine.c knows the internals of libssh2 1.11.1 only: build with TUNNEL_SYSTEM_LIBSSH2=ON"
#endif

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/rand.h>

int engine_capabilities(void) {
  return ENGINE_WHOLE_PACKET_GCM | ENGINE_CONCURRENT_OPENS | ENGINE_REAP_REPLIES;
}

/* ---- aes256-gcm@openssh.com, a packet at a time (RFC 5647, OpenSSH PROTOCOL 1.6) ---- */

enum { kIvBytes = 12, kKeyBytes = 32, kTagBytes = 16, kLengthBytes = 4, kBlockBytes = 16 };

struct gcm {
  EVP_CIPHER_CTX* ctx;
  unsigned char iv[kIvBytes];
  int encrypt;
};

static int gcm_init(LIBSSH2_SESSION* session, const LIBSSH2_CRYPT_METHOD* method, unsigned char* iv,
                    int* free_iv, unsigned char* secret, int* free_secret, int encrypt, void** abstract) {
  struct gcm* gcm = calloc(1, sizeof *gcm);
  (void)session;
  (void)method;
  if (!gcm) return LIBSSH2_ERROR_ALLOC;
  gcm->encrypt = encrypt;
  memcpy(gcm->iv, iv, kIvBytes);
  gcm->ctx = EVP_CIPHER_CTX_new();
  if (!gcm->ctx || EVP_CipherInit_ex(gcm->ctx, EVP_aes_256_gcm(), NULL, secret, iv, encrypt) != 1) {
    EVP_CIPHER_CTX_free(gcm->ctx);
    free(gcm);
    return -1;
  }
  *abstract = gcm;
  *free_iv = 1;
  *free_secret = 1;
  return 0;
}

static int gcm_get_length(LIBSSH2_SESSION* session, unsigned int seqno, unsigned char* data, size_t data_size,
                          unsigned int* len, void** abstract) {
  (void)session;
  (void)seqno;
  (void)abstract;
  if (data_size < kLengthBytes) return LIBSSH2_ERROR_DECRYPT;
  *len = _libssh2_ntohu32(data);
  /* The length is authenticated but sent in clear: judge it before waiting for that many bytes. */
  if (*len < kBlockBytes || *len % kBlockBytes != 0 || *len > MAX_SSH_PACKET_LEN - kLengthBytes - kTagBytes)
    return LIBSSH2_ERROR_DECRYPT;
  return 0;
}

static int gcm_apply(struct gcm* gcm, unsigned char* block, unsigned char* text, int text_len) {
  int done = 0;
  int i;
  if (EVP_CipherInit_ex(gcm->ctx, NULL, NULL, NULL, gcm->iv, -1) != 1) return 0;
  /* The last 8 bytes count packets, big endian. */
  for (i = kIvBytes - 1; i >= kIvBytes - 8; --i)
    if (++gcm->iv[i] != 0) break;
  if (!gcm->encrypt && EVP_CIPHER_CTX_ctrl(gcm->ctx, EVP_CTRL_AEAD_SET_TAG, kTagBytes, text + text_len) != 1)
    return 0;
  if (EVP_CipherUpdate(gcm->ctx, NULL, &done, block, kLengthBytes) != 1) return 0;
  if (EVP_CipherUpdate(gcm->ctx, text, &done, text, text_len) != 1 || done != text_len) return 0;
  if (EVP_CipherFinal_ex(gcm->ctx, text + text_len, &done) != 1) return 0;
  return !gcm->encrypt ||
         EVP_CIPHER_CTX_ctrl(gcm->ctx, EVP_CTRL_AEAD_GET_TAG, kTagBytes, text + text_len) == 1;
}

/* Sending: `block` is length, plaintext of block_len - 4 bytes, room for the tag.
 * Receiving: `block` is length, ciphertext of block_len bytes, tag; the plaintext must end up at the
 * start of `block`. */
static int gcm_crypt(LIBSSH2_SESSION* session, unsigned int seqno, unsigned char* block, size_t block_len,
                     void** abstract, int firstlast) {
  struct gcm* gcm = *(struct gcm**)abstract;
  unsigned char* text = block + kLengthBytes;
  int text_len = (int)(gcm->encrypt ? block_len - kLengthBytes : block_len);
  (void)seqno;
  (void)firstlast;
  if (!gcm_apply(gcm, block, text, text_len)) {
    /* A negative code: the receiving side hands it on as it is, and what is above zero there counts as
     * the type of a packet. It also forgets the buffer it had made for the packet. */
    if (gcm->encrypt) return LIBSSH2_ERROR_ENCRYPT;
    if (session->packet.payload) LIBSSH2_FREE(session, session->packet.payload);
    session->packet.payload = NULL;
    return LIBSSH2_ERROR_DECRYPT;
  }
  if (!gcm->encrypt) memmove(block, text, (size_t)text_len);
  return 0;
}

static int gcm_dtor(LIBSSH2_SESSION* session, void** abstract) {
  struct gcm* gcm = abstract ? *(struct gcm**)abstract : NULL;
  (void)session;
  if (gcm) {
    EVP_CIPHER_CTX_free(gcm->ctx);
    free(gcm);
    *abstract = NULL;
  }
  return 0;
}

static const LIBSSH2_CRYPT_METHOD kWholePacketGcm = {
    "aes256-gcm@openssh.com",
    "",
    kBlockBytes,
    kIvBytes,
    kKeyBytes,
    kTagBytes,
    LIBSSH2_CRYPT_FLAG_REQUIRES_FULL_PACKET,
    &gcm_init,
    &gcm_get_length,
    &gcm_crypt,
    &gcm_dtor,
    _libssh2_cipher_aes256gcm,
};

/* ---- random padding without a system call per packet ---- */

enum { kRandomBytes = 4096 };
static _Thread_local unsigned char random_bytes[kRandomBytes];
static _Thread_local size_t random_left;

/* The linker puts this in place of the library's own (--wrap), which asks OpenSSL for each packet's few
 * bytes of padding; OpenSSL then asks the kernel whether the process has forked. Taken from the same
 * generator, 4 KiB at a time; used bytes are wiped. Not for programs that fork and go on. */
int __wrap__libssh2_openssl_random(void* buffer, size_t size);
int __wrap__libssh2_openssl_random(void* buffer, size_t size) {
  unsigned char* from;
  if (size > kRandomBytes / 4) return RAND_bytes(buffer, (int)size) == 1 ? 0 : -1;
  if (random_left < size) {
    if (RAND_bytes(random_bytes, kRandomBytes) != 1) return -1;
    random_left = kRandomBytes;
  }
  from = random_bytes + (random_left -= size);
  memcpy(buffer, from, size);
  OPENSSL_cleanse(from, size);
  return 0;
}

/* Defined in crypt.c; declared only inside kex.c. */
extern const LIBSSH2_CRYPT_METHOD** libssh2_crypt_methods(void);

int engine_use_whole_packet_gcm(int on) {
  static const LIBSSH2_CRYPT_METHOD* stock = NULL;
  const LIBSSH2_CRYPT_METHOD** method = libssh2_crypt_methods();
  for (; *method; ++method) {
    if (strcmp((*method)->name, kWholePacketGcm.name) != 0) continue;
    if (*method != &kWholePacketGcm) stock = *method;
    *method = on ? &kWholePacketGcm : stock;
    return on;
  }
  return 0;
}

/* ---- input ---- */

int engine_strict_kex(LIBSSH2_SESSION* session) {
  return session->kex_strict ? 1 : 0;
}

static int drop_packets(LIBSSH2_SESSION* session, unsigned char type) {
  unsigned char* data = NULL;
  size_t size = 0;
  int dropped = 0;
  while (_libssh2_packet_ask(session, type, &data, &size, 0, NULL, 0) == 0) {
    LIBSSH2_FREE(session, data);
    ++dropped;
  }
  return dropped;
}

int engine_drain(LIBSSH2_SESSION* session, LIBSSH2_CHANNEL* any_channel, struct engine_seen* seen) {
  (void)any_channel;
  for (;;) {
    int type = _libssh2_transport_read(session);
    if (type == LIBSSH2_ERROR_EAGAIN) return 0;
    if (type < 0) return type;
    switch (type) {
      case SSH_MSG_CHANNEL_DATA:
      case SSH_MSG_CHANNEL_WINDOW_ADJUST:
      case SSH_MSG_CHANNEL_OPEN_CONFIRMATION:
      case SSH_MSG_CHANNEL_OPEN_FAILURE:
      case SSH_MSG_CHANNEL_EOF:
      case SSH_MSG_CHANNEL_CLOSE: break;
      case SSH_MSG_REQUEST_SUCCESS:
      case SSH_MSG_REQUEST_FAILURE:
        seen->replies += (uint64_t)drop_packets(session, (unsigned char)type);
        break;
      default:
        /* IGNORE, DEBUG, GLOBAL_REQUEST, CHANNEL_REQUEST, key exchange: the library answers them
         * itself. What it only queues nobody here will ever fetch. */
        if (type < SSH_MSG_KEXINIT || type > 49) {
          if (drop_packets(session, (unsigned char)type) > 0) ++seen->unexpected;
        }
        break;
    }
  }
}

int engine_channel_readable(LIBSSH2_CHANNEL* channel) {
  return channel->read_avail > 0 || channel->remote.eof || channel->remote.close;
}

int engine_channel_writable(LIBSSH2_CHANNEL* channel) {
  return channel->local.window_size > 0;
}

void engine_channel_set_window(LIBSSH2_CHANNEL* channel, uint32_t bytes) {
  channel->remote.window_size_initial = bytes; /* the library tops the window up to this on each read */
}

/* ---- opens side by side: the session has room for one, so its fields are swapped in and out ---- */

struct engine_open {
  libssh2_nonblocking_states state;
  packet_requirev_state_t requirev;
  LIBSSH2_CHANNEL* channel;
  unsigned char* packet;
  size_t packet_len;
  unsigned char* data;
  size_t data_len;
  uint32_t local_channel;
};

#define SWAP(type, left, right) \
  do {                          \
    type swapped = (left);      \
    (left) = (right);           \
    (right) = swapped;          \
  } while (0)

static void swap_open(LIBSSH2_SESSION* session, struct engine_open* open) {
  SWAP(libssh2_nonblocking_states, session->open_state, open->state);
  SWAP(packet_requirev_state_t, session->open_packet_requirev_state, open->requirev);
  SWAP(LIBSSH2_CHANNEL*, session->open_channel, open->channel);
  SWAP(unsigned char*, session->open_packet, open->packet);
  SWAP(size_t, session->open_packet_len, open->packet_len);
  SWAP(unsigned char*, session->open_data, open->data);
  SWAP(size_t, session->open_data_len, open->data_len);
  SWAP(uint32_t, session->open_local_channel, open->local_channel);
}

LIBSSH2_CHANNEL* engine_open_step(LIBSSH2_SESSION* session, struct engine_open* open, uint32_t window,
                                  const char* message, size_t message_len) {
  LIBSSH2_CHANNEL* channel;
  swap_open(session, open);
  channel = libssh2_channel_open_ex(session, kDirectTcpip, sizeof kDirectTcpip - 1, window, kPacketSize,
                                    message, (unsigned)message_len);
  swap_open(session, open);
  return channel;
}

/* What a session that died had still in hand; the channel itself went with the session. */
static void release_open(struct engine_open* open) {
  free(open->packet);
  free(open->data);
}

#else /* public API only */

struct engine_open {
  int unused;
};

int engine_capabilities(void) {
  return 0;
}
int engine_use_whole_packet_gcm(int on) {
  (void)on;
  return 0;
}

int engine_strict_kex(LIBSSH2_SESSION* session) {
  (void)session;
  return -1;
}

int engine_drain(LIBSSH2_SESSION* session, LIBSSH2_CHANNEL* any_channel, struct engine_seen* seen) {
  char none;
  ssize_t rc;
  (void)session;
  (void)seen;
  if (!any_channel) return 0;
  /* A read of nothing processes all input and takes no data. */
  rc = libssh2_channel_read_ex(any_channel, 0, &none, 0);
  return rc < 0 && rc != LIBSSH2_ERROR_EAGAIN ? (int)rc : 0;
}

int engine_channel_readable(LIBSSH2_CHANNEL* channel) {
  unsigned long available = 0;
  libssh2_channel_window_read_ex(channel, &available, NULL);
  return available > 0 || libssh2_channel_eof(channel) == 1;
}

int engine_channel_writable(LIBSSH2_CHANNEL* channel) {
  return libssh2_channel_window_write_ex(channel, NULL) > 0;
}

void engine_channel_set_window(LIBSSH2_CHANNEL* channel, uint32_t bytes) {
  unsigned long initial = 0;
  unsigned int ignored;
  unsigned long now = libssh2_channel_window_read_ex(channel, NULL, &initial);
  if (now < bytes) libssh2_channel_receive_window_adjust2(channel, bytes - now, 1, &ignored);
}

LIBSSH2_CHANNEL* engine_open_step(LIBSSH2_SESSION* session, struct engine_open* open, uint32_t window,
                                  const char* message, size_t message_len) {
  (void)open;
  return libssh2_channel_open_ex(session, kDirectTcpip, sizeof kDirectTcpip - 1, window, kPacketSize, message,
                                 (unsigned)message_len);
}

static void release_open(struct engine_open* open) {
  (void)open;
}

#endif

struct engine_open* engine_open_new(void) {
  return calloc(1, sizeof(struct engine_open));
}

void engine_open_free(struct engine_open* open) {
  if (!open) return;
  release_open(open);
  free(open);
}
