// A js-libp2p node for the tests of interoperability. It obeys lines of JSON on its input, {"id", "do", ...}, and
// answers each by one on its output, {"id", "ok": ...} or {"id", "error": "..."}. It ends with its input.
//
// Arguments: security (noise or tls) and JSON of what else it has: "dht" (the protocol of one to take part in), "mdns"
// (true: it looks for others on the LAN), "autonat" (true: it asks whether it is reachable, and answers), "listen".

import { createHash, randomFillSync } from 'node:crypto'
import { createInterface } from 'node:readline'
import { noise } from '@chainsafe/libp2p-noise'
import { yamux } from '@chainsafe/libp2p-yamux'
import { autoNATv2 } from '@libp2p/autonat-v2'
import { identify } from '@libp2p/identify'
import { kadDHT, passthroughMapper } from '@libp2p/kad-dht'
import { mdns } from '@libp2p/mdns'
import { ping } from '@libp2p/ping'
import { tcp } from '@libp2p/tcp'
import { tls } from '@libp2p/tls'
import { multiaddr } from '@multiformats/multiaddr'
import { createLibp2p } from 'libp2p'
import multicastDNS from 'multicast-dns'
import { CID } from 'multiformats/cid'

const ECHO = '/p2pshare-test/echo/1.0.0'
const DIGEST = '/p2pshare-test/digest/1.0.0' // reads to the end, and only then answers
const RESET = '/p2pshare-test/reset/1.0.0' // resets at the first byte
const HOLD = '/p2pshare-test/hold/1.0.0' // says a byte, then waits for how the stream ends
const CHUNK = 1 << 18
const WINDOW = 1 << 25 // bytes; its yamux grants up to 16 MiB, and a paused stream keeps what had been granted

const [, , security, also] = process.argv
const has = JSON.parse(also)
const services = { identify: identify(), ping: ping() }
if (has.autonat) {
  services.autonat = autoNATv2()
}
if (has.dht != null) {
  // It knows /pk itself; an /ipns value is kept as it is, since who reads it checks it.
  services.dht = kadDHT({
    protocol: has.dht,
    clientMode: false,
    peerInfoMapper: passthroughMapper,
    validators: { ipns: async () => {} },
    selectors: { ipns: () => 0 }
  })
}
const node = await createLibp2p({
  addresses: { listen: [has.listen ?? '/ip4/127.0.0.1/tcp/0'] },
  transports: [tcp()],
  connectionEncrypters: [security === 'tls' ? tls() : noise()],
  streamMuxers: [yamux()],
  connectionGater: { denyDialMultiaddr: () => false },
  peerDiscovery: has.mdns ? [mdns({ interval: 1000 })] : [],
  services
})
const discovered = new Map()
node.addEventListener('peer:discovery', ({ detail }) => { discovered.set(detail.id.toString(), detail.multiaddrs.map(String)) })
const ends = []

// Sends, and waits while the stream has had enough.
async function send (stream, data) {
  if (!stream.send(data)) {
    await new Promise((resolve, reject) => {
      stream.addEventListener('drain', resolve, { once: true })
      stream.addEventListener('close', (event) => { reject(event.error ?? new Error('closed')) }, { once: true })
    })
  }
}

// Hands every part to `take` until the other side's end; throws when it was a reset. Going through the stream with
// `for await` would wait for ever when the end came before the loop was entered, as it does behind few bytes.
async function read (stream, take) {
  await new Promise((resolve, reject) => {
    const ended = () => {
      stream.status === 'reset' ? reject(Object.assign(new Error('reset'), { name: 'StreamResetError' })) : resolve()
    }
    stream.addEventListener('message', (event) => { take(event.data) })
    stream.addEventListener('end', ended)
    stream.addEventListener('close', ended)
    if (stream.readableEnded) {
      ended()
    }
  })
}

async function digest (stream) {
  const hash = createHash('sha256')
  let size = 0
  await read(stream, (data) => {
    for (const part of data instanceof Uint8Array ? [data] : data) {
      hash.update(part)
      size += part.byteLength
    }
  })
  return { size, sha256: hash.digest('hex') }
}

async function ending (stream) {
  try {
    await read(stream, () => {})
    return 'end'
  } catch (error) {
    return error.name
  }
}

await node.handle(ECHO, async (stream) => {
  stream.maxReadBufferLength = WINDOW
  await read(stream, (data) => {
    if (!stream.send(data) && stream.readStatus === 'readable') {
      stream.pause()
      stream.addEventListener('drain', () => { stream.readStatus === 'paused' && stream.resume() }, { once: true })
    }
  })
  await stream.close()
})
await node.handle(DIGEST, async (stream) => {
  await send(stream, new TextEncoder().encode(JSON.stringify(await digest(stream))))
  await stream.close()
})
await node.handle(RESET, async (stream) => {
  stream.addEventListener('message', () => { stream.abort(new Error('as asked')) }, { once: true })
})
await node.handle(HOLD, async (stream) => {
  await send(stream, new Uint8Array(1))
  ends.push(await ending(stream))
})

const verbs = {
  async self () {
    return { peer: node.peerId.toString(), addresses: node.getMultiaddrs().map(String) }
  },
  async dial ({ address }) {
    const connection = await node.dial(multiaddr(address))
    return { peer: connection.remotePeer.toString(), security: connection.encryption, muxer: connection.multiplexer }
  },
  async connections () {
    return node.getConnections().map((connection) => [connection.remotePeer.toString(), connection.encryption])
  },
  // What identify told about a peer; waits for it.
  async identified ({ peer }) {
    for (;;) {
      for (const known of await node.peerStore.all()) {
        const agent = known.metadata.get('AgentVersion')
        if (known.id.toString() === peer && agent != null) {
          return { agent: new TextDecoder().decode(agent), protocols: known.protocols }
        }
      }
      await new Promise((resolve) => { node.addEventListener('peer:identify', resolve, { once: true }) })
    }
  },
  // The addresses at which a peer was discovered; waits for it.
  async discovered ({ peer }) {
    while (!discovered.has(peer)) {
      await new Promise((resolve) => { node.addEventListener('peer:discovery', resolve, { once: true }) })
    }
    return discovered.get(peer)
  },
  // Which side opened the connection with a peer; waits for it.
  async connected ({ peer }) {
    for (;;) {
      const connection = node.getConnections().find((connection) => connection.remotePeer.toString() === peer)
      if (connection != null) {
        return connection.direction
      }
      await new Promise((resolve) => { node.addEventListener('connection:open', resolve, { once: true }) })
    }
  },
  // The records that are answered to a question about a DNS name, once one of them is of the type.
  async records ({ name, type }) {
    const dns = multicastDNS()
    try {
      return await new Promise((resolve) => {
        dns.on('response', ({ answers, additionals }) => {
          const all = [...answers, ...additionals].map((record) => (
            { ...record, data: record.type === 'TXT' ? [record.data].flat().map(String) : record.data }
          ))
          if (all.some((record) => record.name === name && record.type === type)) {
            resolve(all)
          }
        })
        dns.on('ready', () => { dns.query([{ name, type }]) })
      })
    } finally {
      dns.destroy()
    }
  },
  // Waits until others have shown that an own address can be reached.
  async verified () {
    for (;;) {
      for (const known of node.components.addressManager.getAddressesWithMetadata()) {
        if (known.verified) {
          return known.multiaddr.toString()
        }
      }
      await new Promise((resolve) => { node.addEventListener('self:peer:update', resolve, { once: true }) })
    }
  },
  async ping ({ peer }) {
    return node.services.ping.ping(find(peer))
  },
  async echo ({ peer, size }) {
    const stream = await node.dialProtocol(find(peer), ECHO)
    const sent = createHash('sha256')
    const pattern = randomFillSync(new Uint8Array(CHUNK))
    const reading = digest(stream)
    for (let left = size; left > 0; left -= CHUNK) {
      const part = pattern.slice(0, Math.min(left, CHUNK))
      sent.update(part)
      await send(stream, part)
    }
    await stream.close()
    return { sent: sent.digest('hex'), ...await reading }
  },
  // Closes its half, then reads what the other side says only now.
  async half ({ peer, text }) {
    const stream = await node.dialProtocol(find(peer), DIGEST)
    await send(stream, new TextEncoder().encode(text))
    await stream.close()
    let said = ''
    await read(stream, (data) => { said += new TextDecoder().decode(data.subarray()) })
    return JSON.parse(said)
  },
  async reset ({ peer }) {
    const stream = await node.dialProtocol(find(peer), RESET)
    await send(stream, new Uint8Array(1))
    return ending(stream)
  },
  async hold ({ peer }) {
    const stream = await node.dialProtocol(find(peer), HOLD)
    await new Promise((resolve) => { stream.addEventListener('message', resolve, { once: true }) })
    stream.abort(new Error('as asked'))
    return 'aborted'
  },
  async ends () {
    return ends
  },
  async provide ({ cid }) {
    await node.contentRouting.provide(CID.parse(cid), { signal: AbortSignal.timeout(20000) })
    return true
  },
  async providers ({ cid, wanted }) {
    for await (const found of node.contentRouting.findProviders(CID.parse(cid), { signal: AbortSignal.timeout(20000) })) {
      if (found.id.toString() === wanted) {
        return found.multiaddrs.map(String)
      }
    }
    return null
  },
  async put ({ key, value }) {
    await node.contentRouting.put(Buffer.from(key, 'hex'), Buffer.from(value, 'hex'), { signal: AbortSignal.timeout(20000) })
    return true
  },
  async get ({ key }) {
    const found = await node.contentRouting.get(Buffer.from(key, 'hex'), { signal: AbortSignal.timeout(20000) })
    return Buffer.from(found).toString('hex')
  },
  async table () {
    return node.services.dht.routingTable.size
  }
}

function find (peer) {
  return node.getConnections().find((connection) => connection.remotePeer.toString() === peer).remotePeer
}

const lines = createInterface({ input: process.stdin })
lines.on('line', (line) => {
  const order = JSON.parse(line)
  verbs[order.do](order).then(
    (ok) => ({ id: order.id, ok }),
    (error) => ({ id: order.id, error: `${error.name}: ${error.message}` })
  ).then((answer) => { process.stdout.write(`${JSON.stringify(answer)}\n`) })
})
lines.on('close', () => { process.exit(0) })
