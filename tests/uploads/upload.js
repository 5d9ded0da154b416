// Uploads a file with tus-js-client. The line breaks after some of it; another upload goes on with the same URL elsewhere.
import { createReadStream, statSync } from 'node:fs'
import { Upload } from 'tus-js-client'

const [first, second, token, studio, path] = process.argv.slice(2)
const size = statSync(path).size
const options = (more) => ({
  uploadSize: size,
  chunkSize: 1 << 20,
  retryDelays: [100, 300, 1000, 3000],
  headers: { authorization: `Bearer ${token}` },
  ...more,
})

const url = await new Promise((resolve, reject) => {
  const upload = new Upload(createReadStream(path), options({
    endpoint: `${first}files/uploads`,
    metadata: { studio_id: studio, filename: 'large.txt', filetype: 'text/plain' },
    onError: reject,
    onSuccess: () => reject(new Error('it should have been broken off')),
    onChunkComplete: (_, accepted) => {
      if (accepted >= size / 3) upload.abort().then(() => resolve(upload.url), reject)
    },
  }))
  upload.start()
})
console.log(JSON.stringify({ broken: url }))

let resumedAt
const file = await new Promise((resolve, reject) => {
  let id
  const upload = new Upload(createReadStream(path), options({
    uploadUrl: new URL(new URL(url).pathname, second).href,
    onError: reject,
    onProgress: (sent) => { resumedAt ??= sent },
    onAfterResponse: (_, response) => { id = response.getHeader('upload-file-id') ?? id },
    onSuccess: () => resolve(id),
  }))
  upload.start()
})
console.log(JSON.stringify({ file, resumedAt }))
