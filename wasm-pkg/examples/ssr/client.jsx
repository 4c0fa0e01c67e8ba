// The browser's side: goes on with what the server rendered.

import { hydrateRoot } from 'react-dom/client';
import { Page } from './page.jsx';

const props = JSON.parse(document.querySelector('#props').textContent);
hydrateRoot(document.querySelector('#root'), <Page {...props} />);
