// N js-libp2p nodes with its kad-dht on loopback: node js_libp2p.mjs NODES RUNS. Says {"provide_ms", "find_ms",
// "missed", "table"} on its last line.

import { noise } from '@chainsafe/libp2p-noise'
import { yamux } from '@chainsafe/libp2p-yamux'
import { identify } from '@libp2p/identify'
import { kadDHT, passthroughMapper } from '@libp2p/kad-dht'
import { ping } from '@libp2p/ping'
import { tcp } from '@libp2p/tcp'
import { createLibp2p } from 'libp2p'
import { CID } from 'multiformats/cid'
import { sha256 } from 'multiformats/hashes/sha2'

const [count, runs] = process.argv.slice(2).map(Number)
const nodes = []
for (let number = 0; number < count; number++) {
  nodes.push(await createLibp2p({
    addresses: { listen: ['/ip4/127.0.0.1/tcp/0'] },
    transports: [tcp()],
    connectionEncrypters: [noise()],
    streamMuxers: [yamux()],
    connectionGater: { denyDialMultiaddr: () => false },
    connectionManager: { inboundConnectionThreshold: 1000 }, // a second and address; all nodes have one address here
    services: {
      identify: identify(),
      ping: ping(),
      dht: kadDHT({ protocol: '/ipfs/kad/1.0.0', clientMode: false, peerInfoMapper: passthroughMapper })
    }
  }))
}
for (const node of nodes.slice(1)) {
  await node.dial(nodes[0].getMultiaddrs()[0])
}
const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms))
const smallest = () => Math.min(...nodes.map((node) => node.services.dht.routingTable.size))
for (let turn = 0; turn < 10 && smallest() < Math.min(20, count - 1); turn++) {
  await pause(1000)
  await Promise.all(nodes.map((node) => node.services.dht.refreshRoutingTable()))
}

const provides = []
const finds = []
let missed = 0
for (let run = 0; run < runs; run++) {
  const cid = CID.createV1(0x55, await sha256.digest(new TextEncoder().encode(`key ${run}`)))
  const one = run * 7 % count
  const two = (one + 1 + run % (count - 1)) % count
  let begun = performance.now()
  await nodes[one].contentRouting.provide(cid, { signal: AbortSignal.timeout(60000) })
  provides.push(performance.now() - begun)
  begun = performance.now()
  let found = 0
  for await (const _ of nodes[two].contentRouting.findProviders(cid, { signal: AbortSignal.timeout(60000) })) {
    found++
    break
  }
  finds.push(performance.now() - begun)
  missed += found === 0
}
process.stdout.write(`${JSON.stringify({ provide_ms: provides, find_ms: finds, missed, table: smallest() })}\n`)
process.exit(0)
